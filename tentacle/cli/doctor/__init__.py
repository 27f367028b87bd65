"""What `doctor` looks at, one module per kind of patient.  Changes nothing anywhere."""
