// A plain net/http server.
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
	"sync"
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
	address := os.Getenv("HOST") + ":" + port
	if code, err := strconv.Atoi(os.Getenv("GRACEFUL")); err == nil {
		graceful(address, code)
	}
	log.Fatal(http.ListenAndServe(address, nil))
}

// graceful ends with that code when SIGTERM came and all that was accepted has its answer.
func graceful(address string, code int) {
	var open sync.WaitGroup
	server := &http.Server{Addr: address}
	server.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed:
			open.Done()
		}
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM)
	go func() {
		<-ended
		server.Shutdown(context.Background())
	}()
	// It returns when nothing is accepted any more, and all that was is counted.
	if err := server.ListenAndServe(); err != http.ErrServerClosed {
		log.Fatal(err)
	}
	open.Wait()
	ms, _ := strconv.Atoi(os.Getenv("LINGERS"))
	time.Sleep(time.Duration(ms) * time.Millisecond)
	os.Exit(code)
}
