"""What the codec is measured against on one channel: FEC behind it, image formats, the device alone, the raw image."""
