"""What this app does when it hears an event or the clock."""
