"""What a script has said, as its reader may see it: entries, lines, masking."""
