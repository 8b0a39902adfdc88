"""Letters: their words by language, and how a mail is made of them."""
