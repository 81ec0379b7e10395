"""What a session of the fleet costs beside the clients it is measured against."""
