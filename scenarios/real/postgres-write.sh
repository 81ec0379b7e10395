# Commits fifteen rows of its own, one after the other; one whose COMMIT was not acknowledged is tried again.
url="host=$MIDSESSION_HOST port=$MIDSESSION_PORT user=postgres dbname=postgres connect_timeout=5"
ask() { psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 "$url" --command "$1" 2>&1; }
until ask "CREATE TABLE IF NOT EXISTS seen (client text, n int, PRIMARY KEY (client, n))"; do sleep 0.2; done
n=1
while [ $n -le 15 ]; do
  if said=$(ask "INSERT INTO seen VALUES ('$MIDSESSION_CLIENT', $n) ON CONFLICT DO NOTHING"); then
    echo "committed $n"
    n=$((n + 1))
  else
    echo "lost: $said" | tr '\n' ' ' && echo
    sleep 0.2
  fi
done
