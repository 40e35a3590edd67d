"""Every family's codecs, their variants and their rivals in one table."""
