"""Systems over sequences of tokens or samples."""
