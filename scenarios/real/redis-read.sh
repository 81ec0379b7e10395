# Counts the keys that are there.
keys=$(redis-cli -h "$MIDSESSION_HOST" -p "$MIDSESSION_PORT" DBSIZE) || exit 1
echo "found $keys of 100"
