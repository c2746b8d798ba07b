package conformance

import (
	"regexp"
	"strings"
	"testing"
)

const report = `[{"SpecReports": [
 {"LeafNodeType": "SynchronizedBeforeSuite", "State": "passed"},
 {"ContainerHierarchyTexts": ["[sig-network] Services"], "LeafNodeType": "It", "LeafNodeText": "should work", "State": "passed", "RunTime": 7000000000},
 {"ContainerHierarchyTexts": ["[sig-storage] Disks"], "LeafNodeType": "It", "LeafNodeText": "should spin", "State": "skipped"},
 {"ContainerHierarchyTexts": ["[sig-network] Services"], "LeafNodeType": "It", "LeafNodeText": "should need ssh", "State": "skipped", "Failure": {"Message": "no ssh"}},
 {"ContainerHierarchyTexts": ["[sig-network] LoadBalancers"], "LeafNodeType": "It", "LeafNodeText": "should be had", "State": "timedout", "Failure": {"Message": "gave up\n  after a while\nthird\nfourth"}},
 {"ContainerHierarchyTexts": ["[sig-network] LoadBalancers"], "LeafNodeType": "It", "LeafNodeText": "should cost money", "State": "failed", "Failure": {"Message": "none"}}
]}]`

func TestTable(t *testing.T) {
	results, err := Read([]byte(report))
	if err != nil {
		t.Fatal(err)
	}
	exceptions := []Exception{{Spec: regexp.MustCompile("cost money"), Announce: "l2", Why: "it is free"}}
	var out strings.Builder
	wrong := Write(&out, "layer 2", results, exceptions, "l2")
	if len(wrong) != 1 || wrong[0].Spec != "LoadBalancers should be had" {
		t.Errorf("wrong: %+v", wrong)
	}
	text := regexp.MustCompile(` {2,}`).ReplaceAllString(out.String(), "|")
	for _, want := range []string{
		"Services should work|passed|7|\n",
		"Services should need ssh|skipped|0|no ssh\n",
		"LoadBalancers should be had|FAILED|0|gave up after a while third\n",
		"LoadBalancers should cost money|cannot|0|it is free\n",
		"layer 2: 1 passed, 1 failed, 1 cannot pass, 1 skipped themselves\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "spin") {
		t.Errorf("a spec that was not asked for is in\n%s", text)
	}
	if wrong := Write(&out, "BGP", results, exceptions, "bgp"); len(wrong) != 2 {
		t.Errorf("an exception counts for another way to announce: %+v", wrong)
	}
	if _, err := Read([]byte("no JSON")); err == nil {
		t.Error("text that is not JSON is read as a report")
	}
}

func TestSelect(t *testing.T) {
	if list, err := Select("loadbalancers,services"); err != nil || len(list) != 2 || list[0].Name != "loadbalancers" {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := Select("storage"); err == nil {
		t.Error("a group that there is not")
	}
	focused := Options{Groups: Groups[2:], Focus: "x"}.Asked()
	if len(focused) != 1 || focused[0].Focus != "x" || focused[0].Nodes != Groups[2].Nodes {
		t.Errorf("specs by their names: %+v", focused)
	}
	for _, g := range Groups {
		for _, text := range []string{g.Focus, g.Skip} {
			if _, err := regexp.Compile(text); err != nil {
				t.Error(err)
			}
		}
	}
}
