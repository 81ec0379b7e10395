# Counts the rows that are there.
rows=$(psql --no-psqlrc --tuples-only --no-align --command "SELECT count(*) FROM seen" \
  "host=$MIDSESSION_HOST port=$MIDSESSION_PORT user=postgres dbname=postgres") || exit 1
echo "$rows rows"
