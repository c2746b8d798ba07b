package ui

import (
	"embed"
	"net/http"
)

// static has what the pages load: their style, and two files of others that are
// unchanged. See static/LICENSE.htmx.
//
//go:embed static
var static embed.FS

func serveStatic() http.Handler {
	files := http.FileServerFS(static)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=3600")
		files.ServeHTTP(w, r)
	})
}
