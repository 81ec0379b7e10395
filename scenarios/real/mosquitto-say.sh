# Says the same line again and again, each as a message of its own, until the broker is gone.
while mosquitto_pub -h "$MIDSESSION_HOST" -p "$MIDSESSION_PORT" -t talk -m "$MIDSESSION_CLIENT says hello"; do
  sleep 0.05
done
exit 1
