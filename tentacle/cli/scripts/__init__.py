"""What `scripts`, `drain` and `undrain` share: what is known of the scripts of an instance, and asking its agent."""
