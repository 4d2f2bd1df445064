// The port that `drop_port` blocks.
#define BLOCKED_PORT 9 // discard
