"""Around the senders that an app already has; each module imports its host when it is used."""
