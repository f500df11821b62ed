package hub_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/gorilla/websocket"

	"wxhub/hub"
)

// A hub in any Go program: who connects is said by the caller, here by a query.
func Example() {
	h, _ := hub.New(hub.Options{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = h.Accept(w, r, hub.Session{User: r.URL.Query().Get("user")}) // check a token here
	}))
	phone, _, _ := websocket.DefaultDialer.Dial(strings.Replace(srv.URL, "http", "ws", 1)+"?user=ada&room=notice", nil)
	_, _, _ = phone.ReadMessage() // the welcome
	_, _ = h.Publish(context.Background(), "notice", hub.Message{ID: "order-1", Action: "purchase", Payload: json.RawMessage(`{"quantity":2}`)})
	_, push, _ := phone.ReadMessage()
	_, data, _ := strings.Cut(string(push), `"data":`)
	fmt.Println(data)
	_ = phone.Close()
	_ = h.Shutdown(context.Background())
	srv.Close()
	// Output: {"action":"purchase","payload":{"quantity":2}}}
}

// Serve keeps the handler until the socket has ended: the place to clean up after a client.
func ExampleHub_Serve() {
	h, _ := hub.New(hub.Options{Rules: []hub.Rule{
		{Pattern: "table:*", Join: hub.Anyone, Publish: hub.Member, Keep: hub.Keep{Size: 100}, Presence: hub.PresenceIDs},
		{Pattern: "*", Join: hub.Anyone, Publish: hub.Nobody},
	}})
	gone := make(chan string)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user := r.URL.Query().Get("user")
		if err := h.Serve(w, r, hub.Session{User: user}); err == nil {
			gone <- user + " has left"
		}
	}))
	ada, _, _ := websocket.DefaultDialer.Dial(strings.Replace(srv.URL, "http", "ws", 1)+"?user=ada&room=table:7", nil)
	_, _, _ = ada.ReadMessage() // the welcome
	who, _ := h.Presence(context.Background(), "table:7")
	fmt.Println(who.Count, who.Users[0].ID)
	_ = ada.Close()
	fmt.Println(<-gone)
	_ = h.Shutdown(context.Background())
	srv.Close()
	// Output:
	// 1 ada
	// ada has left
}
