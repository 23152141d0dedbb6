"""The picture of a round is what its program draws, and its example adds up."""

import re
import xml.etree.ElementTree

import pages


def test_the_picture_is_what_the_program_draws():
  program = pages.tool('picture')
  assert program.PICTURE.read_text() == program.picture(), program.COMMAND


def test_the_new_theta_is_the_share_of_ones():
  program = pages.tool('picture')
  root = xml.etree.ElementTree.fromstring(program.PICTURE.read_text())
  cells = [
    float(node.text)
    for node in root.iter('{http://www.w3.org/2000/svg}text')
    if 'middle' in node.get('class')
  ]
  n = len(program.BEFORE)
  _, *clients, after = (cells[i : i + n] for i in range(0, len(cells), n))
  assert len(clients) == len(program.MASKS) == 4
  for i, theta in enumerate(after):
    share = sum(mask[i] for mask in clients) / len(clients)
    assert theta == min(max(share, 0.01), 0.99)
  text = program.PICTURE.read_text()
  said = re.search(r'clients ([\d, and]+)<', text)[1]
  assert re.findall(r'\d', said) == [name[-1] for name in program.MASKS]
