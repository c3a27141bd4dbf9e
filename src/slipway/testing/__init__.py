"""What tests of several rooms share: roots to run things in, a whole platform to kill."""
