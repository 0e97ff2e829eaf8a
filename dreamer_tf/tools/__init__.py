"""What is done with an installation or a finished run: doctor, video, export."""
