"""What tests of several rooms share. Never imported by the product; may import any room."""
