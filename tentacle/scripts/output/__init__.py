"""The output of a script as its reader may see it: lines, masking, pages of entries."""
