// A plain net/http server.
package main

import (
	"fmt"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
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
	log.Fatal(http.ListenAndServe(os.Getenv("HOST")+":"+port, nil))
}
