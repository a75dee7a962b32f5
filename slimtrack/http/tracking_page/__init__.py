"""The page for those who wait for a parcel."""
