import time
def test_zz(lab, lesson):
    t=time.time()
    def say(x): print(f"{time.time()-t:.1f}", x)
    lab.open(f"notebooks/{lesson.notebook.name}")
    say("open")
    lab.cells.nth(5).locator(".cm-content").click()
    lab.menu("Run", "Run All Above Selected Cell")
    lab.page.keyboard.press("Shift+Enter")
    say("keys")
    lab.until_run()
    say("ran predict")
    lab.menu("Run", "Run All Cells")
    for _ in range(60):
        lab.page.wait_for_timeout(2000)
        st=lab.page.locator(".jp-InputPrompt", has_text="[*]").count()
        say((st, lab.page.locator("#jp-main-statusbar").inner_text().replace("\n"," ")[:60]))
        if not st: break
    assert 0
