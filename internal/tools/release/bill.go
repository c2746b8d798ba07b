package main

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// bill writes the bill of materials in CycloneDX: the modules that the linker put
// into any of the programs, and Go's own library.
func (r *release) bill(programs []program) error {
	var infos []*debug.BuildInfo
	for _, p := range programs {
		info, err := buildinfo.Read(bytes.NewReader(p.content))
		if err != nil {
			return fmt.Errorf("%s/%s: %w", p.os, p.arch, err)
		}
		infos = append(infos, info)
	}
	components, err := components(infos, r.libraries)
	if err != nil {
		return err
	}
	bom := cdx.NewBOM()
	self := component("github.com/fairlead/fairlead", r.version, "Apache-2.0")
	self.Type = cdx.ComponentTypeApplication
	bom.Metadata = &cdx.Metadata{Timestamp: r.at.Format(time.RFC3339), Component: &self}
	bom.Components = &components
	bom.SerialNumber = serial(r.version + r.commit)
	var out bytes.Buffer
	encoder := cdx.NewBOMEncoder(&out, cdx.BOMFileFormatJSON)
	if err := encoder.SetPretty(true).Encode(bom); err != nil {
		return err
	}
	return r.write(fmt.Sprintf("fairlead_%s_sbom.cdx.json", r.number()), out.Bytes())
}

// components are the modules of all builds. One whose licence nobody looked at is
// an error.
func components(infos []*debug.BuildInfo, libraries []library) ([]cdx.Component, error) {
	licences := map[string]string{}
	for _, l := range libraries {
		licences[l.path+"@"+l.version] = strings.Join(l.licences, " AND ")
	}
	found := map[string]cdx.Component{}
	for _, info := range infos {
		version := "v" + strings.TrimPrefix(info.GoVersion, "go")
		found["std"] = component("std", version, "BSD-3-Clause")
		for _, m := range info.Deps {
			if m.Replace != nil {
				m = m.Replace
			}
			licence, ok := licences[m.Path+"@"+m.Version]
			if !ok {
				return nil, fmt.Errorf("nobody looked at the licence of %s %s", m.Path, m.Version)
			}
			found[m.Path] = component(m.Path, m.Version, licence)
		}
	}
	for _, l := range libraries {
		if name, ok := strings.CutPrefix(l.path, npm); ok {
			c := component(name, l.version, strings.Join(l.licences, " AND "))
			c.PackageURL = "pkg:npm/" + name + "@" + l.version
			c.BOMRef = c.PackageURL
			found[l.path] = c
		}
	}
	var list []cdx.Component
	for _, c := range found {
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b cdx.Component) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

func component(path, version, licence string) cdx.Component {
	url := "pkg:golang/" + path + "@" + version
	return cdx.Component{
		Type: cdx.ComponentTypeLibrary, Name: path, Version: version, PackageURL: url, BOMRef: url,
		Licenses: &cdx.Licenses{{Expression: licence}},
	}
}

// serial is a UUID (RFC 9562, version 8) made from what the bill is of.
func serial(of string) string {
	h := sha256.Sum256([]byte(of))
	h[6], h[8] = h[6]&0x0f|0x80, h[8]&0x3f|0x80
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", h[0:4], h[4:6], h[6:8], h[8:10], h[10:16])
}
