import time, json, pytest
def test_zz(lab, lesson):
    h={"Authorization":"token first-questions"}
    base=lab.front_door.split("/lab/")[0]
    r=lab.page.request.put(base+"/lab/api/settings/@jupyter-widgets/jupyterlab-manager:plugin", headers=h, data={"raw":'{"saveState": true}'})
    print("KINDS", r.status, r.text())
    lab.open(f"notebooks/{lesson.notebook.name}")
    nb = json.loads(lesson.notebook.read_text())
    lab.cells.nth(5).locator(".cm-content").click()
    lab.menu("Run", "Run All Above Selected Cell")
    lab.page.keyboard.press("Shift+Enter")
    lab.until_run()
    lab.cells.nth(5).locator(".jp-OutputArea-output input[type=text]").first.fill("guess")
    sl = next(i for i,c in enumerate(nb["cells"]) if "lab.slider(" in "".join(c["source"]))
    lab.type(sl, "import torch; from torch import nn\n", over="Control+Home")
    lab.page.keyboard.press("Shift+Enter")
    lab.page.locator(".noUi-handle").first.wait_for()
    lab.menu("Run", "Run All Cells"); lab.until_run()
    lab.save(f"notebooks/{lesson.notebook.name}")
    h={"Authorization":"token first-questions"}
    base=lab.front_door.split("/lab/")[0]
    for s in lab.page.request.get(base+"/api/sessions",headers=h).json(): lab.page.request.delete(base+"/api/sessions/"+s["id"],headers=h)
    lab.page.goto("about:blank")
    lab.open(f"notebooks/{lesson.notebook.name}")
    lab.page.wait_for_timeout(3000)
    print("PREDICT", lab.cells.nth(5).locator(".jp-OutputArea").inner_text()[:300])
    print("SLIDER", lab.cells.nth(sl).locator(".jp-OutputArea").inner_text()[:300], lab.cells.nth(sl).locator(".jp-OutputArea img").count())
    lab.cells.nth(5).evaluate("e=>e.scrollIntoView()"); lab.page.wait_for_timeout(500)
    lab.page.screenshot(path="/tmp/bshots/reopened.png")
    lab.cells.nth(sl).locator(".jp-OutputArea").evaluate("e=>e.scrollIntoView({block:'center'})"); lab.page.wait_for_timeout(500)
    lab.page.screenshot(path="/tmp/bshots/reopened2.png")
    print("KINDS", [list(o.get("data",{})) for c in json.loads(lesson.notebook.read_text())["cells"] if c["cell_type"]=="code" for o in c["outputs"]], lab.page.locator("#jp-main-statusbar").inner_html().count("untrusted"))
    assert 0
