//! Engine to engine over real sockets.
