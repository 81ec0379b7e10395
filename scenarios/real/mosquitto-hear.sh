# Listens until it is stopped; the library connects again by itself.
exec mosquitto_sub -h "$MIDSESSION_HOST" -p "$MIDSESSION_PORT" -k 5 -t talk
