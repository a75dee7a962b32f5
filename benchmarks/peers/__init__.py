"""The same work, done with what others would pick instead of SlimTrack."""
