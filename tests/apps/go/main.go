// A plain net/http server. With GRACEFUL in its environment it ends what it has begun when SIGTERM comes.
package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
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
	http.HandleFunc("/echo/", echo())
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
	if code := os.Getenv("GRACEFUL"); code != "" {
		graceful(listener, code)
	}
	log.Fatal(http.Serve(listener, nil))
}

// echo is what echo/echo.js does.
func echo() http.HandlerFunc {
	me := make([]byte, 8)
	rand.Read(me)
	var had atomic.Uint64
	return func(w http.ResponseWriter, r *http.Request) {
		words := strings.Split(r.URL.Path, "/")
		body, err := io.ReadAll(r.Body)
		if err != nil || len(words) != 4 {
			http.Error(w, "no", http.StatusBadRequest)
			return
		}
		number := had.Add(1)
		ms, _ := strconv.Atoi(words[2])
		time.Sleep(time.Duration(ms) * time.Millisecond)
		fmt.Fprintf(w, "%s %x %x %d\n", words[3], sha256.Sum256(body), me, number)
	}
}

// graceful ends with that code when SIGTERM came and all that was accepted has its answer.
func graceful(listener net.Listener, text string) {
	code, _ := strconv.Atoi(text)
	var open sync.WaitGroup
	server := &http.Server{}
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
	if err := server.Serve(listener); err != http.ErrServerClosed {
		log.Fatal(err)
	}
	open.Wait()
	ms, _ := strconv.Atoi(os.Getenv("LINGERS"))
	time.Sleep(time.Duration(ms) * time.Millisecond)
	os.Exit(code)
}
