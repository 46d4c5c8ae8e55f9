"""The front ends: terminal chat and command line. Importing costs nothing; torch comes in where a model is loaded."""
