"""What the README's figures come from; each module prints its table and how it was made."""
