package main

import (
	"fmt"
	"net/http"
	"os"
)

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "go %d", os.Getpid()) })
	panic(http.ListenAndServe(":"+os.Args[1], nil))
}
