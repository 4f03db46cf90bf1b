// A plain net/http server. With GRACEFUL in its environment it does what net/http has for that: Shutdown behind SIGTERM.
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func version() string {
	if version := os.Getenv("VERSION"); version != "" {
		return version
	}
	if text, err := os.ReadFile("VERSION"); err == nil {
		return strings.TrimSpace(string(text))
	}
	return "v1"
}

func main() {
	port := os.Getenv("PORT")
	if len(os.Args) > 1 {
		port = os.Args[1]
	}
	if port == "" {
		port = "3000"
	}
	body := fmt.Sprintf("%s %d\n", version(), os.Getpid())
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if text := strings.TrimPrefix(r.URL.Path, "/sleep/"); text != r.URL.Path {
			ms, _ := strconv.Atoi(text)
			time.Sleep(time.Duration(ms) * time.Millisecond)
		}
		fmt.Fprint(w, body)
	})
	var listener net.Listener
	var err error
	if port == "fds" {
		listener, err = net.FileListener(os.NewFile(3, "inherited"))
	} else {
		listener, err = net.Listen("tcp", os.Getenv("HOST")+":"+port)
	}
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{}
	if os.Getenv("GRACEFUL") == "" {
		log.Fatal(server.Serve(listener))
	}
	ended := make(chan struct{})
	go func() {
		term := make(chan os.Signal, 1)
		signal.Notify(term, syscall.SIGTERM)
		<-term
		server.Shutdown(context.Background())
		close(ended)
	}()
	if err := server.Serve(listener); err != http.ErrServerClosed {
		log.Fatal(err)
	}
	<-ended
}
