"""The minimal solver core: knows no frontend, no gRPC, no plugin."""
