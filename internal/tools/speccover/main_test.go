package main

import (
	"slices"
	"strings"
	"testing"
)

func TestNumbers(t *testing.T) {
	tests := []struct {
		text string
		want []int
	}{
		{"# spec 59, 60, 61, 92: under", []int{59, 60, 61, 92}},
		{"// spec 7:\n// spec 8, 7: twice", []int{7, 8}},
		{"spec 41-43: a range", []int{41, 42, 43}},
		{"spec 1, 3-4 and 98", []int{1, 3, 4, 98}},
		{"spec 0, 99: no such behaviour", nil},
		{"inspec 5, spec five, specs 6", nil},
	}
	for _, tt := range tests {
		if got := numbers(tt.text); !slices.Equal(got, tt.want) {
			t.Errorf("%q: got %v, want %v", tt.text, got, tt.want)
		}
	}
}

func TestSummary(t *testing.T) {
	found := map[int][]string{}
	for n := 1; n <= behaviours; n++ {
		found[n] = []string{"x_test.go"}
	}
	if got := summary(found); got != "spec: 98/98" {
		t.Errorf("got %q", got)
	}
	delete(found, 20)
	delete(found, 97)
	if got := summary(found); got != "spec: 96/98 missing 20, 97" {
		t.Errorf("got %q", got)
	}
	if !strings.HasPrefix(summary(nil), "spec: 0/98 missing 1, 2, 3") {
		t.Error(summary(nil))
	}
}
