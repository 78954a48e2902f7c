package fleet

import (
	"embed"
	"go/ast"
	"go/parser"
	"go/token"
	"strings"
)

// The comments of the spec types are the manual, so the program carries the
// files that declare them: what `rotunda schema` and editors show is never
// older than the code.
//
//go:embed service.go profile.go policy.go intent.go bundle.go window.go exception.go region.go
var specFiles embed.FS

// Manual maps the names of the spec types ("Profile") and of their fields
// ("Profile.RideOut") to what their comments say.
func Manual() map[string]string {
	manual := make(map[string]string)
	for _, kind := range Kinds() {
		name := strings.ToLower(string(kind)) + ".go"
		source, err := specFiles.ReadFile(name)
		if err != nil {
			panic("fleet: " + err.Error())
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, source, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			panic("fleet: the file that was compiled does not parse: " + err.Error())
		}
		describeTypes(file, manual)
	}
	return manual
}

func describeTypes(file *ast.File, manual map[string]string) {
	for _, declaration := range file.Decls {
		types, ok := declaration.(*ast.GenDecl)
		if !ok || types.Tok != token.TYPE {
			continue
		}
		for _, spec := range types.Specs {
			named := spec.(*ast.TypeSpec)
			structure, ok := named.Type.(*ast.StructType)
			if !ok {
				continue
			}
			manual[named.Name.Name] = oneLine(types.Doc.Text())
			for _, field := range structure.Fields.List {
				for _, name := range field.Names {
					manual[named.Name.Name+"."+name.Name] = oneLine(field.Doc.Text())
				}
			}
		}
	}
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
