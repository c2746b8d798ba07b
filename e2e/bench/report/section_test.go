package report

import "testing"

func TestSection(t *testing.T) {
	const document = "a\n<!-- x -->\nold\nold\n<!-- /x -->\nb\n<!-- y -->\n<!-- /y -->\n"
	got, err := section(document, "x", "new\n\n")
	if want := "a\n<!-- x -->\nnew\n<!-- /x -->\nb\n<!-- y -->\n<!-- /y -->\n"; err != nil || got != want {
		t.Errorf("%q, %v", got, err)
	}
	if again, err := section(got, "x", "new"); err != nil || again != got {
		t.Errorf("again: %q, %v", again, err)
	}
	if _, err := section(document, "z", ""); err == nil {
		t.Error("a section that is not there was written")
	}
}
