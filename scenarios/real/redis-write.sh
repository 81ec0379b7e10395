# Writes twenty keys of its own, each acknowledged, and then asks until the server goes away.
ask() { redis-cli -h "$MIDSESSION_HOST" -p "$MIDSESSION_PORT" "$@" 2>&1; }
for n in $(seq 20); do
  answer=$(ask SET "$MIDSESSION_CLIENT:$n" "$n")
  [ "$answer" = OK ] || { echo "not acknowledged: $answer"; exit 1; }
done
echo all written
while answer=$(ask PING) && [ "$answer" = PONG ]; do sleep 0.05; done
echo "lost: $answer"
