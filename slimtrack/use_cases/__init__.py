"""What can be done with SlimTrack, for any front end; each use case is one transaction or more."""
