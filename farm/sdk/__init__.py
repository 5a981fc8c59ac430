"""The only room that knows the Cloud AI 100 SDK: find it, call its tools, read what they say."""
