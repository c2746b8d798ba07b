package kube

import (
	"net/http"
	"slices"
	"strings"
)

// writes tells of every request that the API server answered and that may have
// changed something.
type writes struct {
	next http.RoundTripper
	tell func(verb, resource string)
}

// verbs are the names that RBAC has for the methods that write.
var verbs = map[string]string{
	http.MethodPost: "create", http.MethodPut: "update", http.MethodPatch: "patch", http.MethodDelete: "delete",
}

func (w *writes) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := w.next.RoundTrip(req)
	if verb := verbs[req.Method]; verb != "" && err == nil {
		w.tell(verb, resourceOf(req.URL.Path))
	}
	return resp, err
}

// resourceOf returns the resource of a path below /api/VERSION or
// /apis/GROUP/VERSION, with its subresource: "services/status".
func resourceOf(path string) string {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	skip := 2
	if parts[0] == "apis" {
		skip = 3
	}
	parts = parts[min(skip, len(parts)):]
	if len(parts) > 2 && parts[0] == "namespaces" && !slices.Contains([]string{"status", "finalize"}, parts[2]) {
		parts = parts[2:]
	}
	switch len(parts) {
	case 0:
		return ""
	case 1, 2:
		return parts[0]
	}
	return parts[0] + "/" + parts[2]
}
