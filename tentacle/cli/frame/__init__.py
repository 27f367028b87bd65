"""What every command stands on: grammar, help, options, values, session, output."""
