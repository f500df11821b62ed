package socketio_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/gorilla/websocket"

	"wxhub/hub/socketio"
)

// A server of its own, without rooms and without the hub: who comes in says something, and everybody hears it.
func Example() {
	server := socketio.New(socketio.Options{CheckOrigin: func(*http.Request) bool { return true }})
	all := server.Of("/")
	all.On("say", func(e *socketio.Event) {
		var text string
		if err := e.Args[0].Decode(&text); err != nil {
			_ = e.Ack("that is no text")
			return
		}
		_ = all.Emit("said", text)
		_ = e.Ack("thank you")
	})
	web := httptest.NewServer(server)
	defer web.Close()

	// What a client of version 4 does: io(web.URL, {transports: ['websocket']}).emit('say', 'hello', console.log)
	ws, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(web.URL, "http")+"/socket.io/?EIO=4&transport=websocket", nil)
	if err != nil {
		panic(err)
	}
	defer ws.Close()
	_, _, _ = ws.ReadMessage() // open
	_ = ws.WriteMessage(websocket.TextMessage, []byte("40"))
	_, _, _ = ws.ReadMessage() // connected
	_ = ws.WriteMessage(websocket.TextMessage, []byte(`421["say","hello"]`))
	for range 2 {
		_, message, _ := ws.ReadMessage()
		fmt.Println(string(message))
	}
	// Output:
	// 42["said","hello"]
	// 431["thank you"]
}
