"""What all pages for people share: languages, rendering, assets."""
