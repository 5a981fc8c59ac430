"""What runs inside an emulated SDK root, where this package is called `emulator`."""
