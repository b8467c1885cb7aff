"""Settings: every option, written once, without torch."""
