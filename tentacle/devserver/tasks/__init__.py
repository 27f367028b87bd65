"""The task queue, and what each kind of task does."""
