"""The file protocol: trees and files over a stream, both ends."""
