"""The online side: the stages that turn a shopper's window into a slate, and the HTTP API around them."""
