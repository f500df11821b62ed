// Package socketio speaks Socket.IO over WebSocket: Engine.IO revisions 3 and 4, Socket.IO protocol revisions 4 and 5,
// which is what clients of the versions 2, 3 and 4 speak. Long-polling is not served.
//
// It has two faces. Handshake, Version, Packet and Assembler are the protocol without sockets, clocks and goroutines,
// for a program that has those of its own. Server is a whole server made of them: an http.Handler with namespaces,
// events, acknowledgements and binary values.
//
// Strictness: a message that breaks the protocol ends its connection and no other. Every size is bounded:
// Options.MaxPayload bounds a message and a packet with all its attachments.
// Concurrency: one reader and one writer goroutine a connection; handlers run on the reader, one after the other.
// Lifecycle: ServeHTTP returns when its connection is gone and both goroutines have ended.
// Dependencies: gorilla/websocket. Nothing of rooms.
package socketio
