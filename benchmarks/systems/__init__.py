"""What is compared: encoders, evomem itself, and other memory systems."""
