"""`python -m telephony_gateway`: the same as the command `telephony-gateway`."""

from telephony_gateway.cli import main

if __name__ == "__main__":
    main()
