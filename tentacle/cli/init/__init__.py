"""`init`: the questions, and the steps that lead to a worker."""
